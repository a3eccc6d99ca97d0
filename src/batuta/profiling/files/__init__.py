"""The files of a profile: their schemas, writing them and reading them."""
