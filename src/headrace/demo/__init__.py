"""The demo: the main job on real parts, told by a client of the API that knows no more than a user does."""
