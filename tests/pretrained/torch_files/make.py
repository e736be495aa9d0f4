"""Writes the files of this folder with PyTorch: python make.py

Their numbers are counted, so that a test knows them without PyTorch.
"""

import collections
import os
import pathlib

import safetensors.torch
import torch

FOLDER = pathlib.Path(__file__).parent
OLD = {'_use_new_zipfile_serialization': False}


class Evil:
  """Runs a command in the shell of whoever unpickles it."""

  def __reduce__(self):
    return os.system, ('touch evil',)


class History(list):
  """Something that PyTorch alone would not know."""

  def __init__(self):
    self.evil = Evil()


def main():
  count = torch.arange(24).float()
  both = count / 8  # two tensors share it
  tensors = {
    'kernel': (count - 7).reshape(2, 3, 2, 2),
    'turned': count[:12].reshape(3, 4).t(),
    'part': both[3:7],
    'rest': both[7:],
    'half': count[:5].half() / 4,
    'bfloat16': count[:5].bfloat16() / 4,
    'double': count[:4].double() / 3,
    'byte': count[:4].to(torch.uint8),
    'int': count[:4].int() - 9,
    'long': torch.tensor(7),
    'bool': torch.tensor([True, False]),
    'none': torch.zeros(0, 3),
    'parameter': torch.nn.Parameter(count[:2]),
  }
  plain = collections.OrderedDict(tensors)
  more = {
    'meta': {
      'evil': Evil(),
      'history': History(),
      'device': torch.device('cpu'),
    },
    'state_dict': plain,
    'optimizer': {'state': {}, 'param_groups': [{'lr': 0.1, 'params': [0]}]},
    'message_hub': Evil(),
  }
  for form, options in (('zip', {}), ('old', OLD)):
    torch.save(plain, FOLDER / f'weights_{form}.pth', **options)
    torch.save(more, FOLDER / f'checkpoint_{form}.pth', **options)
    torch.save([1, 2], FOLDER / f'list_{form}.pth', **options)
  torch.save(torch.nn.Linear(1, 1), FOLDER / 'model_zip.pth')
  whole = {key: value.detach().contiguous() for key, value in tensors.items()}
  whole['part'], whole['rest'] = whole['part'].clone(), whole['rest'].clone()
  safetensors.torch.save_file(whole, FOLDER / 'weights.safetensors')


if __name__ == '__main__':
  main()
