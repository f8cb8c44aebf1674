"""Photo files of every format: their pixels at full depth, their colours, their metadata.

`record` is what a photograph is, `reader` and `writer` turn files into it and back, `walk` lists
what is to be done, `presence` says which pixels hold a picture.
"""
