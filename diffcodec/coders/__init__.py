"""How a diff's numbers become few bytes, and come back.

Two coders behind one seam: `fast` needs numpy and zstandard alone; `max` mixes contexts in a
small C extension. What the bytes mean is docs/diff-format-v1.md; where they stand in a file is
`diffcodec.file`.
"""
