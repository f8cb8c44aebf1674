"""Folders of photographs to built data sets: listed, measured, split, written with TFDS."""
