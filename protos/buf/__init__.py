"""Rules of fields, as protovalidate names them."""
