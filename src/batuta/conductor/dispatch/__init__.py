"""Talking to pipelines and to the product database: requests, polls, answers, confirmations."""
