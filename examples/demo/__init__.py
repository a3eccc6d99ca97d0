"""The science that `batuta demo` runs: see README.md next to this file."""
