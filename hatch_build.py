"""
Fetch Swagger UI while building: the documentation page works offline, and no copy of it lives in this
repository.
"""

from __future__ import annotations

import importlib.util
import shutil
from pathlib import Path
from typing import Any

from hatchling.builders.hooks.plugin.interface import BuildHookInterface

FILES = ("swagger-ui-bundle.js", "swagger-ui.css", "favicon-32x32.png")


class SwaggerUIBuildHook(BuildHookInterface):
    """
    Copies the files from a package of the build environment (see `build-system.requires`) to
    paytrust/api/static/swagger-ui.
    """

    def initialize(self, version: str, build_data: dict[str, Any]) -> None:  # noqa: ARG002
        target = Path(self.root, "paytrust", "api", "static", "swagger-ui")
        # Found, never imported: importing it would need the web framework it is made for.
        spec = importlib.util.find_spec("fastapi_swagger")
        if spec is None or spec.origin is None:
            raise RuntimeError("the build environment lacks fastapi-swagger, which carries Swagger UI")
        source = Path(spec.origin).parent / "resources"
        target.mkdir(parents=True, exist_ok=True)
        for name in FILES:
            shutil.copyfile(source / name, target / name)
        build_data["artifacts"].append("paytrust/api/static/swagger-ui/*")
