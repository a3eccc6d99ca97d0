"""`batuta up`: the plan of an orchestra on this machine, its checks, its processes."""
