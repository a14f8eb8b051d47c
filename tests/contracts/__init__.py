"""What every implementation behind a seam must do, on the real thing: databases, stores."""
