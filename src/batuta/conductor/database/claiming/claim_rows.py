"""The row of a processing that is claimed."""

from typing import Any

from batuta.conductor.decisions.approvals import first_state
from batuta.conductor.decisions.rules import Claim


def new_row(claim: Claim, now: float, not_before: float) -> dict[str, Any]:
    """Return the row of a new processing, which is not requested before a time."""
    product = claim.product
    return {
        "id": claim.processing_id,
        "product": product.name,
        "obs_id": claim.obs_id,
        "claim": claim.key,
        "inputs": dict(claim.inputs),
        "provider": product.provider,
        "priority": product.priority,
        "work_class": claim.told_class or product.work_class,
        "told_class": claim.told_class,
        "told_priority": None,
        "stage": claim.stage,
        "max_attempts": product.max_attempts,
        "timeout_s": product.timeout_s,
        "state": first_state(product, approved=False),
        "held_by": None,
        "attempt": 0,
        "pipeline_attempt": 0,
        "not_before": not_before,
        "ask_at": now,
        "done": 0,
        "total": 0,
        "created": now,
    }
