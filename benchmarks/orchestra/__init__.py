"""What the orchestra costs, against a bare loop of what no orchestra can do without.

The bare loop (`support.bare_loop`) takes a message of JetStream with nats-py, commits a row to
SQLite as safely (``synchronous = FULL``), and sends an HTTP request with the fastest client there
is: on the same NATS, the same disk, in the same run, in turns. Every service is a process of its
own, as in life. Each module is a benchmark: `figures` returns its lines of the table; run with
``python -m`` it is the program that measures.
"""
