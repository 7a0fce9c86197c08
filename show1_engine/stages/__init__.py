"""The four stages of the cascade: frames (or text) in, frames out. One file each, named like its
node.
"""
