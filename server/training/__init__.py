"""Recipes that learn generations of a speech model. Imports torch; the serving process does not."""
