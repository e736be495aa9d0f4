"""Files on disk: atomic writes, JSON, lists, COCO documents and images.

Every error names the file and the place in it.
"""
