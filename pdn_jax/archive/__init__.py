"""Archives of photographs, any number of them, from a folder or store to another.

The names are listed in parts (`lists`), never all in memory. A worker (an actor of Ray Data that holds
the compiled network, or this process) takes a part and reads, decodes, enhances, encodes and writes its
photographs, several at once (`work`). Results are put whole; what is there, by name and size, is passed
by, so that a part that was begun is gone on with, by whoever.
"""
