"""The part of the JSON API for faults on demand, if the program allows them."""

from __future__ import annotations

from flask import Blueprint, Response, abort, current_app, jsonify, request

from ..faults import STAGES, Faults
from .changes import check_parameters, is_change

#: The parameters of a new fault; `Faults.add` checks their combinations.
WORDS = ("do", "at", "sender", "recipient", "code", "text", "seconds", "chance", "times")

routes = Blueprint("faults", __name__, url_prefix="/api/faults")


@routes.before_request
def check_request() -> None:
    if current_app.extensions["smtp_blinker"].faults is None:
        abort(404, "faults are off: smtp-blinker --faults, or create_app(faults=Faults())")
    if is_change():
        check_parameters(WORDS if request.method == "POST" else ())


@routes.get("")
def list_faults() -> Response:
    return jsonify(faults=[fault.as_dict() for fault in _faults().all], stages=STAGES)


@routes.post("")
def add_fault() -> Response:
    try:
        fault = _faults().add(request.args)
    except ValueError as exc:
        abort(400, str(exc))
    return jsonify(fault.as_dict())


@routes.delete("")
def clear_faults() -> Response:
    return jsonify(deleted=_faults().clear())


@routes.delete("/<int:number>")
def remove_fault(number: int) -> Response:
    if not _faults().remove(number):
        abort(404, "there is no such fault any more")
    return jsonify(deleted=1)


def _faults() -> Faults:
    faults: Faults = current_app.extensions["smtp_blinker"].faults
    return faults
