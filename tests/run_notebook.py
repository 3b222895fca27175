"""Run notebooks top to bottom with the standard library alone.

    python tests/run_notebook.py --check notebooks/*.ipynb
    python tests/run_notebook.py --write notebooks/00*.ipynb

--check fails on the first exception; --write also puts the outputs into the
file, in the bytes that Jupyter would save. A notebook runs in its own folder,
as in Jupyter. Not supported, and not needed here: display(), magics (lines
that begin with % or ! are passed over) and await outside of functions.
"""

import ast
import contextlib
import io
import json
import linecache
import os
import pathlib
import re
import subprocess
import sys
import traceback
import types

ROOT = pathlib.Path(__file__).resolve().parent.parent
KERNEL = {"display_name": "Python 3", "language": "python", "name": "python3"}


def lines(text):
    """Cut a text as nbformat stores it; lists pass as they are."""
    return text.splitlines(keepends=True) if isinstance(text, str) else text


def parse(source, name):
    """Parse a cell; where that fails, without its magics."""
    try:
        return ast.parse(source, name)
    except SyntaxError:
        return ast.parse(re.sub(r"(?m)^(\s*)[%!].*", r"\1pass", source), name)


def evaluate(source, name, names):
    """Execute a cell; its value is that of its last line, if it has one."""
    # Tracebacks and inspect.getsource() find the text of a cell here.
    linecache.cache[name] = len(source), None, source.splitlines(True), name
    tree = parse(source, name)
    last = tree.body and isinstance(tree.body[-1], ast.Expr) and (
        not source.rstrip().endswith(";")) and tree.body.pop()
    exec(compile(tree, name, "exec"), names)
    if last:
        return eval(compile(ast.Expression(last.value), name, "eval"), names)


def pictures(value):
    """Show a value in all ways that it knows."""
    # Addresses differ from run to run, and say nothing to a reader.
    data = {"text/plain": re.sub(r" at 0x[0-9a-f]+", " at 0x...",
                                 repr(value))}
    for mime, method in (("image/svg+xml", "_repr_svg_"),
                         ("text/html", "_repr_html_")):
        if picture := getattr(value, method, lambda: None)():
            data[mime] = picture
    return {mime: lines(text) for mime, text in data.items()}


def run_cell(cell, number, name, names):
    """Run one code cell and put its outputs into it."""
    said, value = io.StringIO(), None
    with contextlib.redirect_stdout(said):
        value = evaluate("".join(cell["source"]), name, names)
    cell["execution_count"], cell["outputs"] = number, []
    if said.getvalue():
        cell["outputs"].append({"output_type": "stream", "name": "stdout",
                                "text": lines(said.getvalue())})
    if value is not None:
        cell["outputs"].append({
            "output_type": "execute_result", "execution_count": number,
            "metadata": {}, "data": pictures(value)})


def run_notebook(path):
    """Run a notebook from its file; return it with its outputs.

    Errors: whatever a cell raises.
    """
    book = json.loads(path.read_text(encoding="utf-8"))
    book.update(nbformat=4, nbformat_minor=5)
    book.setdefault("metadata", {}).setdefault("kernelspec", KERNEL)
    sys.modules["__main__"] = main_module = types.ModuleType("__main__")
    sys.path[:0] = [str(path.parent), str(ROOT / "notebooks"), str(ROOT)]
    os.chdir(path.parent)
    number = 0
    for index, cell in enumerate(book["cells"]):
        cell.setdefault("id", f"cell-{index:02}")
        cell.setdefault("metadata", {})
        cell["source"] = lines(cell["source"])
        if cell["cell_type"] == "code":
            number += 1
            run_cell(cell, number, f"<{path.name}, cell {number}>",
                     vars(main_module))
    return book


def main(mode, *files):
    """Run each notebook, in a process of its own where there are several."""
    if mode not in ("--check", "--write") or not files:
        sys.exit(__doc__)
    if len(files) > 1:
        return max(subprocess.call([sys.executable, __file__, mode, file])
                   for file in files)
    path = pathlib.Path(files[0]).resolve()
    try:
        book = run_notebook(path)
    except Exception:
        traceback.print_exc()
        print(f"{path.name} failed", file=sys.stderr)
        return 1
    if mode == "--write":
        path.write_text(json.dumps(book, indent=1, ensure_ascii=False,
                                   sort_keys=True) + "\n", encoding="utf-8")
    print(f"{path.name} ran")
    return 0


if __name__ == "__main__":
    sys.exit(main(*(sys.argv[1:] or [""])))
