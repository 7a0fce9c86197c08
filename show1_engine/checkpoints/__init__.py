"""Model files: find, read, verify and convert them. Nothing here builds a module or runs code out
of a file.
"""
