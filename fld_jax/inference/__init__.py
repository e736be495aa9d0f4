"""Landmarks of anyone's images, and files to deploy."""
