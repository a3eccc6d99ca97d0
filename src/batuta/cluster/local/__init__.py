"""Tasks in processes of this machine: the scheduler, its pool of workers, and what runs in them."""
