"""The files of a profile: their schemas, the writer and the reader."""
