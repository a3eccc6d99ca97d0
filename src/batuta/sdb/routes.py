"""The sdb over REST."""

from collections.abc import Callable
from functools import partial
from http import HTTPStatus
from typing import Annotated, Any, Final

from fastapi import Path, Query, Request, Response
from starlette.concurrency import run_in_threadpool
from starlette.requests import ClientDisconnect

from batuta.names import NAME_PATTERN
from batuta.sdb.bare_body import BareBody
from batuta.sdb.bulk import MEDIA_TYPE as LINES
from batuta.sdb.bulk import BulkImporter
from batuta.sdb.catalogue import Catalogue, ImportResult
from batuta.sdb.contents import Contents
from batuta.sdb.exports import ExportRequest, export
from batuta.sdb.fields import FIELDS
from batuta.sdb.form import ImportForm
from batuta.sdb.imports import CLIENT_CLOSED_REQUEST, Decoding, Importer, UploadAbortedError
from batuta.sdb.lists import ProductQuery
from batuta.sdb.metrics import SdbMetrics
from batuta.sdb.records import Lineage, StoredProduct
from batuta.sdb.references import ReferenceImporter
from batuta.service.committer import Committer
from batuta.service.direct_routes import DirectRoute
from batuta.service.guard import lift_body_bound
from batuta.service.pagination import Page
from batuta.service.problems import problem_responses
from batuta.service.routing import ServiceRouter
from batuta.stages import STAGE_RULE
from batuta.work_classes import WorkClass

MAX_LIMIT: Final = 1000

ProductName = Annotated[str, Path(pattern=NAME_PATTERN)]
ObsId = Annotated[str, Path(pattern=NAME_PATTERN)]
Version = Annotated[int, Path(ge=1, lt=2**31)]
Verify = Annotated[
    bool, Query(description="Read the bytes and compare their digest before any is sent.")
]

Reason = Annotated[str | None, Query(min_length=1, max_length=400, pattern=r"^[^\x00-\x1f\x7f]*$")]

ONE: Final = "/products/{product}/{obs_id}"
VERSION: Final = ONE + "/versions/{version}"

_FORM: Final[dict[str, Any]] = {
    "requestBody": {
        "required": True,
        "content": {
            "multipart/form-data": {
                "schema": {
                    "type": "object",
                    "required": ["product", "obs_id", "file"],
                    "properties": {
                        "product": {"type": "string", "pattern": NAME_PATTERN},
                        "obs_id": {"type": "string", "pattern": NAME_PATTERN},
                        "file": {"type": "string", "format": "binary"},
                        "quicklook": {"type": "string", "format": "binary"},
                        "metadata": {"type": "string", "description": "a JSON object"},
                        "sha256": {"type": "string", "pattern": "^[0-9a-fA-F]{64}$"},
                        "processing_id": {"type": "string"},
                        "attempt": {"type": "string", "pattern": "^[1-9][0-9]{0,8}$"},
                        "provider": {"type": "string", "pattern": NAME_PATTERN},
                        "inputs": {
                            "type": "string",
                            "description": 'JSON: [{"product": "...", "version": 1}]',
                        },
                        "stage": {"type": "string", "description": STAGE_RULE},
                        "code": {"type": "string"},
                        "graph_version": {"type": "string"},
                        "class": {"type": "string", "enum": [*WorkClass]},
                    },
                    "additionalProperties": False,
                }
            }
        },
    }
}
_BARE: Final[dict[str, Any]] = {
    "requestBody": {
        "required": True,
        "content": {"*/*": {"schema": {"type": "string", "format": "binary"}}},
    },
    "parameters": [
        *(
            {
                "name": name,
                "in": "path",
                "required": True,
                "schema": {"type": "string", "pattern": NAME_PATTERN},
            }
            for name in ("product", "obs_id")
        ),
        *(
            {"name": name, "in": "query", "required": False, "schema": {"type": "string"}}
            # What a query says that is not declared is refused before the body is read.
            for name in ("filename", *FIELDS[2:])
        ),
    ],
}
_BULK: Final[dict[str, Any]] = {
    "requestBody": {
        "required": True,
        "content": {LINES: {"schema": {"type": "string", "format": "binary"}}},
    }
}
_REFERENCE: Final[dict[str, Any]] = {
    "requestBody": {
        "required": True,
        "content": {
            "application/json": {
                "schema": {
                    "type": "object",
                    "required": ["path", "product", "obs_id"],
                    "properties": {
                        "path": {"type": "string", "description": "absolute, without links"},
                        "metadata": {"type": "object"},
                        "inputs": {"type": "array"},
                        **{
                            name: {"type": "string"}
                            for name in ("filename", "media_type", *FIELDS)
                            if name not in {"metadata", "inputs"}
                        },
                    },
                    "additionalProperties": False,
                }
            }
        },
    }
}
_BYTES: Final[dict[int | str, dict[str, Any]]] = {
    200: {"content": {"*/*": {}}, "description": "The file, of the media type of its record"},
    206: {"description": "The range asked for"},
    304: {"description": "If-None-Match names its ETag"},
    **problem_responses(
        HTTPStatus.NOT_FOUND, HTTPStatus.GONE, HTTPStatus.REQUESTED_RANGE_NOT_SATISFIABLE
    ),
}
_NOT_FOUND: Final = problem_responses(HTTPStatus.NOT_FOUND)
_NOT_GIVEN: Final = problem_responses(HTTPStatus.NOT_FOUND, HTTPStatus.GONE)
_REFUSED: Final = problem_responses(
    HTTPStatus.CONFLICT,
    HTTPStatus.REQUEST_ENTITY_TOO_LARGE,
    HTTPStatus.UNSUPPORTED_MEDIA_TYPE,
    HTTPStatus.INSUFFICIENT_STORAGE,
)
_BULK_ANSWERS: Final[dict[int | str, dict[str, Any]]] = {
    200: {"content": {LINES: {}}, "description": "A line of JSON for each file, in their order"},
    **_REFUSED,
}


def import_router(
    importer: Importer, bulk: BulkImporter, references: ReferenceImporter
) -> ServiceRouter:
    """Route for imports: one by one, in bulk, and by reference."""
    router = ServiceRouter(tags=["products"], route_class=RouteOfBodies)

    @router.post(
        ONE,
        status_code=HTTPStatus.CREATED,
        response_model=StoredProduct,
        openapi_extra=_BARE,
        responses={200: {"model": StoredProduct, "description": "Imported before"}, **_REFUSED},
    )
    async def import_body(request: Request) -> Response:
        """Import the body as the next version of a product; as the form, without a form."""
        return await _imported(importer, request, BareBody)

    @router.post(
        "/products",
        status_code=HTTPStatus.CREATED,
        response_model=StoredProduct,
        openapi_extra=_FORM,
        responses={200: {"model": StoredProduct, "description": "Imported before"}, **_REFUSED},
    )
    async def import_product(request: Request) -> Response:
        """Import a file as the next version of a product.

        What repeats an import is answered 200 with the version that it repeats: that of its
        `processing_id`; without one, the newest, if its bytes and all that is said of it are the
        same.
        """
        return await _imported(importer, request, _form)

    @router.post(
        "/products/bulk", response_class=Response, openapi_extra=_BULK, responses=_BULK_ANSWERS
    )
    async def import_bulk(request: Request) -> Response:
        """Import many small files, each a line of JSON; each has its own line in the answer.

        Such as `{"status": 201, "stored": {…}}`, 200 for what repeats a version, or `{"status":
        422, "detail": "…"}`: none fails the others.
        """
        try:
            answers = await bulk.import_all(request)
        except ClientDisconnect:
            return Response(status_code=CLIENT_CLOSED_REQUEST)
        return Response(b"".join(answers), media_type=LINES)

    @router.post(
        "/products/reference",
        status_code=HTTPStatus.CREATED,
        response_model=StoredProduct,
        openapi_extra=_REFERENCE,
        responses={
            200: {"model": StoredProduct, "description": "Imported before"},
            **_REFUSED,
            **_NOT_FOUND,
        },
    )
    async def import_reference(request: Request) -> Response:
        """Import a file of the sdb's machine, in a folder that its operator has named.

        The sdb copies it there; no bytes of it are sent.
        """
        return _answer(await references.import_named(request))

    return router


class RouteOfBodies(DirectRoute):
    """A route whose function reads a body of any length piece by piece."""

    async def answer(self, request: Request) -> Response:
        """Answer a request, whose body is not bounded here."""
        lift_body_bound(request.scope)
        return await super().answer(request)


def _form(request: Request) -> ImportForm:
    return ImportForm(request.headers)


async def _imported(importer: Importer, request: Request, decoding: Decoding) -> Response:
    """Import, and answer with the record; serialised here, as FastAPI would validate it again."""
    try:
        recorded = await importer.import_upload(request, decoding)
    except UploadAbortedError:
        return Response(status_code=CLIENT_CLOSED_REQUEST)
    return _answer(recorded)


def _answer(recorded: ImportResult) -> Response:
    return Response(
        recorded.stored.model_dump_json(),
        status_code=HTTPStatus.CREATED if recorded.is_new else HTTPStatus.OK,
        headers={"Location": recorded.stored.uri.removesuffix("/data")},
        media_type="application/json",
    )


def record_router(catalogue: Catalogue) -> ServiceRouter:
    """Routes that return records."""
    router = ServiceRouter(tags=["products"])

    @router.get("/products")
    def list_products(
        product: Annotated[str | None, Query(pattern=NAME_PATTERN)] = None,
        obs_id: Annotated[str | None, Query(pattern=NAME_PATTERN)] = None,
        *,
        latest: bool = False,
        withdrawn: Annotated[bool, Query(description="Those that were withdrawn.")] = False,
        limit: Annotated[int, Query(ge=1, le=MAX_LIMIT)] = 100,
        cursor: Annotated[int, Query(ge=0, lt=2**63)] = 0,
    ) -> Page[StoredProduct]:
        """List every version, or the newest of each product, in the order of their import."""
        query = ProductQuery(
            product=product,
            obs_id=obs_id,
            latest=latest,
            withdrawn=withdrawn,
            limit=limit,
            after=cursor,
        )
        return catalogue.page(query)

    @router.get(ONE, responses=_NOT_FOUND)
    def newest(product: ProductName, obs_id: ObsId) -> StoredProduct:
        """Return the newest version's record; a version of a higher stage is newer."""
        return catalogue.find(product, obs_id)

    @router.get(VERSION, responses=_NOT_GIVEN)
    def one_version(product: ProductName, obs_id: ObsId, version: Version) -> StoredProduct:
        """Return one version's record."""
        return catalogue.find(product, obs_id, version)

    @router.get(f"{ONE}/lineage", responses=_NOT_FOUND)
    def newest_lineage(product: ProductName, obs_id: ObsId) -> Lineage:
        """Return all that the newest version was made from."""
        return catalogue.lineage(product, obs_id)

    @router.get(f"{VERSION}/lineage", responses=_NOT_GIVEN)
    def lineage(product: ProductName, obs_id: ObsId, version: Version) -> Lineage:
        """Return all that one version was made from."""
        return catalogue.lineage(product, obs_id, version)

    return router


def withdrawal_router(
    catalogue: Catalogue, committer: Committer, announce: Callable[[], None]
) -> ServiceRouter:
    """Route that withdraws a version; `announce` is called when the outbox has a new row."""
    router = ServiceRouter(tags=["products"])

    @router.delete(VERSION, responses=_NOT_FOUND)
    async def withdraw(
        product: ProductName, obs_id: ObsId, version: Version, reason: Reason = None
    ) -> StoredProduct:
        """Withdraw a version: its record and bytes are kept, and given no more."""
        work = partial(
            catalogue.withdraw, product=product, obs_id=obs_id, version=version, reason=reason
        )
        stored = await committer.commit(work)
        announce()
        return stored

    return router


def data_router(catalogue: Catalogue, contents: Contents, metrics: SdbMetrics) -> ServiceRouter:
    """Routes that return bytes."""
    router = ServiceRouter(tags=["products"])

    @router.get(f"{ONE}/data", responses=_BYTES, response_class=Response)
    @router.head(f"{ONE}/data", include_in_schema=False)
    async def newest_data(
        request: Request, product: ProductName, obs_id: ObsId, *, verify: Verify = False
    ) -> Response:
        """Return the newest version's bytes."""
        stored = await run_in_threadpool(catalogue.find, product, obs_id)
        return await export(ExportRequest(request, stored, verify), contents, metrics)

    @router.get(f"{VERSION}/data", responses=_BYTES, response_class=Response)
    @router.head(f"{VERSION}/data", include_in_schema=False)
    async def data(
        request: Request,
        product: ProductName,
        obs_id: ObsId,
        version: Version,
        *,
        verify: Verify = False,
    ) -> Response:
        """Return one version's bytes."""
        stored = await run_in_threadpool(catalogue.find, product, obs_id, version)
        return await export(ExportRequest(request, stored, verify), contents, metrics)

    return router
