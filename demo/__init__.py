"""A dealer group's day: the input files, and the player that sends them through the public APIs."""
