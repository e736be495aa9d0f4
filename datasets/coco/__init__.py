"""COCO-style keypoint annotations: COCO itself, and files of anyone."""
