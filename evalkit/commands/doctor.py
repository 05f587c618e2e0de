"""``evalkit doctor``: what this machine can run and what is missing."""

from __future__ import annotations

from typing import Any

from evalkit.commands.options import Debug, Json
from evalkit.commands.terminal import clean, print_json, size, stdout


def doctor(as_json: Json = False, debug: Debug = False) -> None:
    """Check what this machine can run and what is missing."""
    from evalkit.doctor import collect_facts

    facts = collect_facts()
    if as_json:
        print_json(facts)
        return
    console = stdout()
    for name, value in _lines(facts):
        console.print(f"{name:<14}{clean(value)}", soft_wrap=True)


def _lines(facts: dict[str, Any]) -> list[tuple[str, str]]:
    torch, hub, bundle = facts["torch"], facts["hub"], facts["bundle"]
    lines = [
        ("evalkit", f"{facts['evalkit']}, Python {facts['python']} ({facts['executable']})"),
        ("machine", f"{facts['platform']}, {facts['cores']} cores, {_size(facts['memory_bytes'])} of memory"),
        ("disk", f"{_size(facts['disk_free_bytes'])} free here"),
        ("torch", _torch(torch)),
    ]
    lines += [
        (
            f"device cuda:{index}",
            f"{device['name']}, {_size(device['memory_bytes'])}, capability {device['capability']}",
        )
        for index, device in enumerate(torch["devices"])
    ]
    lines += [
        ("libraries", ", ".join(f"{name} {found or 'missing'}" for name, found in facts["libraries"].items())),
        ("vllm", _vllm(facts["vllm"])),
        (
            "extras",
            ", ".join(f"{name} {'installed' if there else 'not installed'}" for name, there in facts["extras"].items()),
        ),
        ("engines", ", ".join(f"{name}: {state}" for name, state in facts["engines"].items())),
        ("plugins", " ".join(facts["plugin_problems"]) or "no problems"),
        ("code", _code(facts["code_execution"])),
        ("hub", f"{hub['address']} " + ("is reachable" if hub["reachable"] else f"is not reachable ({hub['reason']})")),
        ("bundle", _bundle(bundle)),
        ("home", facts["home"]),
        ("cache", facts["cache"]),
    ]
    lines += [("", f"{part['name']}: {_size(part['bytes'])} in {part['path']}") for part in facts["caches"]]
    return lines


def _torch(torch: dict[str, Any]) -> str:
    if torch["version"] is None:
        return "missing: run 'pip install torch'"
    build = f"CUDA {torch['cuda']} build" if torch["cuda"] else "CPU build"
    devices = f", {len(torch['devices'])} CUDA devices" if torch["cuda"] else ""
    problem = f" (problem: {torch['error']})" if torch["error"] else ""
    return f"{torch['version']}, {build}{devices}{problem}"


def _vllm(vllm: dict[str, Any]) -> str:
    if vllm["installed"] is None:
        return f"not installed: run '{vllm['command']}'"
    if not vllm["ready"]:
        return f"{vllm['installed']} cannot run: {' '.join(vllm['problems'])} To fix this, run '{vllm['command']}'"
    return f"{vllm['installed']} on {vllm['device']}, scoring path: {vllm['path']}"


def _code(found: dict[str, Any]) -> str:
    if found["ready"]:
        return f"--allow-code-execution runs programs in {found['protection']}"
    return f"programs cannot be run safely: {found['protection']}. On Linux, run 'apt install bubblewrap'"


def _bundle(bundle: dict[str, Any]) -> str:
    if bundle["whole"]:
        return f"present: {bundle['path']}"
    return ("damaged" if bundle["present"] else "missing") + ": run 'evalkit data fetch'"


def _size(count: int | None) -> str:
    return "unknown" if count is None else size(count)
