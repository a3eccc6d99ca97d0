"""Which processings a command is about: by id, by product and observation, or by filters."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from heapq import merge
from typing import TYPE_CHECKING, Any, Final

from batuta.errors import BatutaError, ConfigurationError
from batuta.formatting import format_count

if TYPE_CHECKING:
    from batuta.cli.conductor_client import ConductorClient

LAST_ATTEMPT_FAILED: Final = ("failed", "retrying")


@dataclass(frozen=True, kw_only=True)
class Selection:
    """What the command line says.

    Attributes
    ----------
    target : sequence of str
        An id, or a product and an observation; empty with filters.
    filters : mapping
        As REST takes them; ``state`` is a list.
    """

    target: Sequence[str]
    filters: Mapping[str, Any]

    @classmethod
    def of(
        cls,
        target: list[str] | None,
        filters: Mapping[str, Any] | None = None,
        *,
        failed: bool = False,
    ) -> "Selection":
        """Check that it selects something.

        Parameters
        ----------
        failed : bool
            Whether those are meant whose last attempt has failed, unless a state is given.

        Raises
        ------
        ConfigurationError
            If it has neither a target nor a filter, or both.
        """
        given = cls.listed(filters or {}, failed=failed).filters
        words = target or []
        accepted = (
            "accepted: ID, or PRODUCT OBS_ID, or filters, as --provider, --product, --obs-id: "
            "see --help"
        )
        if words and given:
            raise ConfigurationError(f"{' '.join(words)} and filters given ({accepted})")
        if len(words) > 2 or not (words or given):
            raise ConfigurationError(f"{format_count(len(words), 'argument')} given ({accepted})")
        return cls(target=words, filters=given)

    @classmethod
    def listed(cls, filters: Mapping[str, Any], *, failed: bool = False) -> "Selection":
        """Return what filters select: all, without any."""
        of_state = {"state": list(LAST_ATTEMPT_FAILED)} if failed else {}
        return cls(target=(), filters={**of_state, **filters})

    def newest(self, conductor: "ConductorClient") -> Iterator[dict[str, Any]]:
        """Yield what filters select, the newest first."""
        states = dict.fromkeys(self.filters.get("state") or [None])
        lists = [conductor.processings(**self._filters_of_list(state)) for state in states]
        return merge(*lists, key=lambda each: (each["created"], each["id"]), reverse=True)

    def processings(self, conductor: "ConductorClient") -> list[dict[str, Any]]:
        """Return the processings that it selects; of a product of an observation, the newest.

        Raises
        ------
        BatutaError
            If there is none.
        """
        if len(self.target) == 1:
            return [conductor.processing(self.target[0])]
        if self.target:
            return [newest_processing(conductor, *self.target)]
        found = list(self.newest(conductor))
        if not found:
            raise BatutaError(f"{self.words()}: no processing{self.state_words()}")
        return found

    def _filters_of_list(self, state: str | None) -> dict[str, str]:
        filters = {name: str(value) for name, value in self.filters.items() if name != "state"}
        return filters if state is None else {**filters, "state": state}

    def words(self) -> str:
        """Say by what it selects, but for the states and the times: ``product B, obs_id o*``."""
        named = {k: v for k, v in self.filters.items() if k not in {"state", "until"}}
        return ", ".join(f"{name} {value}" for name, value in named.items()) or "all"

    def state_words(self) -> str:
        """Say which states it selects: `` that is failed or retrying``; "" if it selects any."""
        states = self.filters.get("state")
        if not states:
            return ""
        *first, last = states
        return f" that is {', '.join(first)} or {last}" if first else f" that is {last}"


def newest_processing(conductor: "ConductorClient", product: str, obs_id: str) -> dict[str, Any]:
    """Return the newest processing of a product of an observation.

    Raises
    ------
    BatutaError
        If there is none; says why.
    """
    why = conductor.why(product, obs_id)
    if why["processings"]:
        newest: dict[str, Any] = why["processings"][-1]
        return newest
    raise BatutaError(f"{product} of {obs_id}: no processing: {why['answer']}")


def processing_line(processing: Mapping[str, Any]) -> str:
    """Return a processing in one line, with its state and its id."""
    return (
        f"{processing['product']} of {processing['obs_id']}: "
        f"{processing['state']} ({processing['id']})"
    )
