"""The spoken-command task: two encoders of one space, triplet loss, nearest phrase (paper 4.2)."""
