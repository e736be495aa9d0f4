"""What a prediction wrote."""

import json


def results_of(output):
  """The annotations of predictions.json, each with its image and category."""
  found = json.loads((output / 'predictions.json').read_text())
  files = {image['id']: image['file_name'] for image in found['images']}
  assert len(files) == len(found['images']) == len({*files.values()})
  categories = {entry['id']: entry for entry in found['categories']}
  return [
    {
      **entry,
      'file_name': files[entry['image_id']],
      'category': categories[entry['category_id']],
    }
    for entry in found['annotations']
  ]
