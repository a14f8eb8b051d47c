"""The wire contracts, ota.v1, and the code generated from them."""
