"""Documents about meshes that live on one machine: ``wgctl demo``."""

from __future__ import annotations

from meshd.lab.demo import DemoResult
from meshd.lab.services_demo import ServicesResult
from wgctl.documents.base import Document


class DemoShown(DemoResult, frozen=True, kw_only=True, tag_field="format", tag="wgctl-demo/1"):
    """``wgctl demo``: what became of the mesh, and what each attack cost."""


class ServicesDemoShown(
    ServicesResult, frozen=True, kw_only=True, tag_field="format", tag="wgctl-demo-services/1"
):
    """``wgctl demo --services``: seconds by what came true."""


class Swept(Document, frozen=True, kw_only=True, tag="wgctl-demo-sweep/1"):
    """``wgctl demo --sweep``. ``failures``: what could not be taken away."""

    swept: tuple[str, ...]
    failures: tuple[str, ...]
