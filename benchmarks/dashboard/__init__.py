"""What the dashboard costs: the browser that shows it, and the service that many watch.

The service is a process of its own that receives changes at a steady rate, as from an orchestra
(`feed`); the page is opened in a real Chromium, whose own counters are read over its debugging
protocol.
"""
