from hypothesis import settings

# How long an example takes depends on what else the machine does: pytest's own timeout is enough.
settings.register_profile("no deadline", deadline=None)
settings.load_profile("no deadline")
