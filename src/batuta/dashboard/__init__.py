"""The dashboard: what an orchestra does, live, on one web page."""
