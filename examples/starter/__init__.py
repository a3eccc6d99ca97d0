"""What `batuta new` copies: a project with a pipeline of two products, one of them tiled."""
