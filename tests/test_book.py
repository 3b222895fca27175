"""The book is tested like the program.

What faas.py, the notebooks and the documentation say about themselves is
checked here: a rule that nothing checks is broken within a month.
"""

import ast
import builtins
import concurrent.futures
import inspect
import json
import pathlib
import re
import statistics
import subprocess
import symtable
import sys
import tempfile
import typing

import pytest

import faas

ROOT = pathlib.Path(__file__).resolve().parent.parent
BOOK = ROOT / "faas.py"
TEXT = BOOK.read_text(encoding="utf-8")
LINES = TEXT.splitlines()
TREE = ast.parse(TEXT)
TITLE_PAGE = ast.get_docstring(TREE)


class Chapter(typing.NamedTuple):
    number: int
    title: str
    question: str
    start: int          # its first character in the file, and the first
    end: int            # of the next chapter

    @property
    def text(self):
        return TEXT[self.start:self.end]


def chapters():
    """Find the chapters by their banners."""
    found = list(re.finditer(r"^# =+\n# Chapter (\d+)\. (.+?): (.+)\n# =+\n",
                             TEXT, re.M))
    ends = [banner.start() for banner in found[1:]] + [len(TEXT)]
    return [Chapter(int(banner[1]), banner[2], banner[3], banner.start(), end)
            for banner, end in zip(found, ends)]


CHAPTERS = chapters()
each_chapter = pytest.mark.parametrize(
    "chapter", CHAPTERS, ids=lambda chapter: f"chapter-{chapter.number}")
each_chapter_but_0 = pytest.mark.parametrize(
    "chapter", CHAPTERS[1:], ids=lambda chapter: f"chapter-{chapter.number}")


def run_python(*arguments, stdin="", timeout=60):
    """Run a fresh interpreter at the root; it must exit with 0."""
    # Files, not pipes: what a failing doctest leaves behind may hold a pipe
    # open, and we would wait for it.
    with tempfile.TemporaryFile("w+") as given, \
            tempfile.TemporaryFile("w+") as said:
        given.write(stdin)
        given.seek(0)
        status = subprocess.call([sys.executable, *arguments], cwd=ROOT,
                                 stdin=given, stdout=said,
                                 stderr=subprocess.STDOUT, timeout=timeout)
        said.seek(0)
        assert status == 0, said.read()


# The order of the chapters ---------------------------------------------------


def test_the_contents_list_is_that_of_the_banners():
    listed = re.findall(r"^ {4}([ \d]\d)  (\S.*?) {2,}(\S.*)$",
                        section("Contents"), re.M)
    assert [(int(number), *rest) for number, *rest in listed] == [
        chapter[:3] for chapter in CHAPTERS[1:]]


def section(heading):
    """Cut the section below an underlined heading from the title page."""
    start = re.search(rf"^{heading}.*\n-+\n", TITLE_PAGE, re.M).end()
    return re.split(r"^.+\n-+$", TITLE_PAGE[start:], flags=re.M)[0]


def test_chapters_stand_in_the_order_of_their_numbers():
    numbers = [chapter.number for chapter in CHAPTERS]
    assert numbers[0] == 0 and numbers == sorted(set(numbers))


@each_chapter
def test_the_book_up_to_each_chapter_is_a_program(chapter):
    run_python("-c", "import sys\n"
               "names = {'__name__': 'prefix', '__file__': sys.argv[1]}\n"
               "exec(compile(sys.stdin.read(), sys.argv[1], 'exec'), names)",
               str(BOOK), stdin=TEXT[:chapter.end])


def globals_of(text):
    """Give the global names that a text defines, and those that it uses."""
    module = symtable.symtable(text, "faas.py", "exec")
    defined = {symbol.get_name() for symbol in module.get_symbols()
               if symbol.is_assigned() or symbol.is_imported()}
    used, scopes = set(), [module]
    for scope in scopes:
        scopes += scope.get_children()
        used |= {symbol.get_name() for symbol in scope.get_symbols()
                 if symbol.is_referenced()
                 and (scope is module or symbol.is_global())}
    return defined, used


def promised(chapter):
    """Read the names in a line like `# Promised: invoke (8), Gate (8).`"""
    line = re.search(r"^# Promised: ((?:.+\n)+?)(?:#?\n|\Z)", chapter.text,
                     re.M)[1]
    names = re.sub(r"\(.*?\)|[#`\n]", " ", line).split(".")[0]
    words = set(re.split(r"\s*,\s*|\s+and\s+", names.strip()))
    return words - {"nothing"}


@each_chapter_but_0
def test_what_a_chapter_uses_of_later_ones_is_promised(chapter):
    here, used = globals_of(chapter.text)
    before, _ = globals_of(TEXT[:chapter.start])
    after, _ = globals_of(TEXT[chapter.end:])
    assert promised(chapter) == (used & after) - before - here


# What each chapter holds -----------------------------------------------------


@each_chapter_but_0
def test_each_chapter_opens_and_closes_like_the_others(chapter):
    parts = ["# Promised:", "# Try it ---", "# Roads not taken ---",
             "# Real world ---"]
    places = [chapter.text.find("\n" + part) for part in parts]
    assert -1 not in places and places == sorted(places), [*zip(parts, places)]


def doctest_chapter(path, end, names, tries, line):
    """Run the doctests of `names` and then `tries`, with the book up to `end`.

    This function is run in a process of its own, which is why it imports.
    """
    import doctest
    import sys
    import types
    with open(path, encoding="utf-8") as file:
        prefix = file.read()[:end]
    sys.modules["faas"] = book = types.ModuleType("faas")
    book.__file__ = path
    exec(compile(prefix, path, "exec"), vars(book))
    tests = [test for test in doctest.DocTestFinder().find(book, "faas")
             if test.name.split(".")[1:2] and test.name.split(".")[1] in names]
    tests.sort(key=lambda test: test.lineno or 0)
    tests.append(doctest.DocTestParser().get_doctest(
        tries, vars(book), "Try it", path, line))
    runner = doctest.DocTestRunner()
    for test in tests:
        runner.run(test)
    result = runner.summarize()
    sys.exit(result.failed > 0 or result.attempted == 0)


@each_chapter_but_0
def test_the_examples_of_a_chapter_need_no_later_one(chapter):
    found = re.search(r"^# Try it -+\n((?:#.*\n)*?)# Roads", chapter.text,
                      re.M)
    tries = re.sub(r"^# ?", "", found[1], flags=re.M)
    line = TEXT.count("\n", 0, chapter.start + found.start(1))
    names = sorted(globals_of(chapter.text)[0])
    run_python("-c", inspect.getsource(doctest_chapter) + "doctest_chapter"
               + repr((str(BOOK), chapter.end, names, tries, line)))


# How it is written -----------------------------------------------------------


def find_shims():
    """Give {name: its lines} of the programs in other languages.

    Each is a string of many lines that is assigned to a name in capitals.
    """
    found = {}
    for node in TREE.body:
        if isinstance(node, ast.Assign) and ast.unparse(
                node.targets[0]).endswith("_SHIM"):
            found[node.targets[0].id] = range(node.lineno,
                                              node.value.end_lineno + 1)
    return found


SHIMS = find_shims()


def lines_of_prose_and_code():
    """Number the lines that explain, and those that do.

    Prose is a line that is only a comment, or that stands in a docstring;
    code is every other line; an empty line is neither. Nor is a line of a
    shim: those have their own measures below.
    """
    quoted = set()
    for node in ast.walk(TREE):
        if isinstance(node, ast.Module | ast.ClassDef | ast.FunctionDef):
            if ast.get_docstring(node):
                text = node.body[0]
                quoted |= set(range(text.lineno, text.end_lineno + 1))
    full = {number for number, line in enumerate(LINES, 1) if line.strip()}
    full -= {number for shim in SHIMS.values() for number in shim}
    comments = {number for number in full
                if LINES[number - 1].lstrip().startswith("#")}
    prose = (quoted | comments) & full
    return prose, full - prose


PROSE, CODE = lines_of_prose_and_code()
FUNCTIONS = [node for node in ast.walk(TREE)
             if isinstance(node, ast.FunctionDef)]


def test_prose_and_code_keep_their_balance():
    balance = len(PROSE) / len(CODE)
    assert 0.6 <= balance <= 1.2


def test_functions_fit_on_a_screen():
    whole = {f"{node.name}, line {node.lineno}":
             range(node.lineno, node.end_lineno + 1) for node in FUNCTIONS}
    code = {name: len(CODE & set(lines)) for name, lines in whole.items()}
    assert [name for name, lines in whole.items() if len(lines) > 60] == []
    assert [name for name, size in code.items() if size > 45] == []
    assert statistics.median(code.values()) <= 9


def blocks_of(shim):
    """Give {first line: size} of what stands at the left margin of a shim.

    A block begins with a line that is not indented and ends with the next
    one that closes it: `}`, `})` or `end`, whatever the language.
    """
    found, first = {}, None
    for number in SHIMS[shim]:
        line = LINES[number - 1]
        if re.match(r"[\w\"(].*[{(]$|(?:local )?function\b", line):
            first = first or number
        if first and re.match(r"[})]|end\b", line):
            found[f"line {first}: {LINES[first - 1]}"] = number - first + 1
            first = None
    assert first is None, (shim, first)
    return found


@pytest.mark.parametrize("shim", SHIMS)
def test_functions_of_a_shim_fit_on_a_screen_too(shim):
    sizes = blocks_of(shim)
    assert len(sizes) >= 5      # else this measures nothing
    assert [name for name, size in sizes.items() if size > 60] == []
    assert statistics.median(sizes.values()) <= 12


def test_there_is_a_shim_for_each_language_but_ours():
    assert [*SHIMS] == ["NODE_SHIM", "GO_SHIM", "LUA_SHIM"]


@pytest.mark.parametrize("shim", SHIMS)
def test_a_section_explains_its_shim_before_it_shows_it(shim):
    lines, explained = LINES[:SHIMS[shim].start - 1], 0
    while not lines[-1].strip() or lines[-1].startswith("#"):
        explained += lines.pop().startswith("#")
    assert explained >= 10
    # And inside it, in its own language.
    said = [number for number in SHIMS[shim]
            if re.search(r"(^|\s)(//|--)", LINES[number - 1])]
    assert said and len(SHIMS[shim]) / len(said) < 30


def test_no_line_is_wider_than_79_columns():
    files = [BOOK, *(ROOT / "tests").rglob("*.py")]
    wide = [f"{file.name}:{number}" for file in files for number, line
            in enumerate(file.read_text("utf-8").splitlines(), 1)
            if len(line) > 79]
    assert wide == []


def test_nothing_is_left_to_do():
    assert [line for line in LINES
            if re.search(r"\b(TODO|FIXME|XXX)\b", line)] == []


def test_only_the_standard_library_is_imported():
    imported = set()
    for node in ast.walk(TREE):
        if isinstance(node, ast.Import):
            imported |= {name.name.split(".")[0] for name in node.names}
        elif isinstance(node, ast.ImportFrom):
            imported.add(node.module.split(".")[0])
    assert imported - sys.stdlib_module_names == set()


def template(node):
    """Write a sentence with holes: f"no {x} here" is "no {} here"."""
    if isinstance(node, ast.Constant):
        return str(node.value)
    if isinstance(node, ast.JoinedStr):
        return "".join(template(part) for part in node.values)
    if isinstance(node, ast.BinOp) and isinstance(node.op, ast.Add):
        return template(node.left) + template(node.right)
    return "{}"


FAILURES = [node for node in ast.walk(TREE) if isinstance(node, ast.Call)
            and ast.unparse(node.func) == "FaasError" and len(node.args) > 1]


def test_every_failure_has_a_sentence_of_its_own():
    said = [template(node.args[1]) for node in FAILURES]
    twice = {text for text in said if said.count(text) > 1}
    assert {text for text in twice if re.search("[a-z]", text)} == set()


def test_whatever_is_raised_has_a_sentence_of_its_own():
    """A protocol's errors as well: what a peer did wrong is found by it."""
    said = [template(argument) for node in ast.walk(TREE)
            if isinstance(node, ast.Raise) and isinstance(node.exc, ast.Call)
            for argument in node.exc.args]
    sentences = [text for text in said if " " in text]
    assert len(sentences) > 250         # else this measures nothing
    assert {text for text in sentences if sentences.count(text) > 1} == set()


def test_every_failure_is_of_a_kind_in_the_table():
    kinds = {node.args[0].value for node in FAILURES
             if isinstance(node.args[0], ast.Constant)}
    assert kinds <= faas.KINDS.keys() and kinds


def test_every_security_promise_has_a_test_of_its_name():
    page = section("Security promises")
    tests = (ROOT / "tests" / "test_promises.py").read_text("utf-8")
    made = set(re.findall(r"^ {4}S(\d+) ", page, re.M))
    kept = set(re.findall(r"^def test_s(\d+)_\w", tests, re.M))
    assert made and made == kept


# Notebooks -------------------------------------------------------------------

NOTEBOOKS = sorted((ROOT / "notebooks").glob("*.ipynb"))
ANSWERS = sorted((ROOT / "notebooks" / "answers").glob("*.ipynb"))


def code_cells(path):
    cells = json.loads(path.read_text(encoding="utf-8"))["cells"]
    return [cell for cell in cells if cell["cell_type"] == "code"]


def test_there_are_notebooks_00_to_14_and_answers_to_each():
    numbers = [f"{number:02}" for number in range(15)]
    assert [path.name[:2] for path in NOTEBOOKS] == numbers
    assert [path.name[:2] for path in ANSWERS] == numbers


@pytest.fixture(scope="module")
def runs():
    """Start all notebooks, two at a time: they mostly wait; {path: Future}."""
    with concurrent.futures.ThreadPoolExecutor(2) as pool:
        yield {path: pool.submit(
            run_python, str(ROOT / "tests" / "run_notebook.py"), "--check",
            str(path)) for path in NOTEBOOKS + ANSWERS}


@pytest.mark.parametrize("path", NOTEBOOKS + ANSWERS, ids=lambda path: str(
    path.relative_to(ROOT / "notebooks")))
def test_a_notebook_runs_from_top_to_bottom(path, runs):
    runs[path].result()


def test_the_cells_of_notebooks_have_six_lines_or_fewer():
    long = [f"{path.name}, cell {cell['execution_count']}"
            for path in NOTEBOOKS for cell in code_cells(path)
            if "".join(cell["source"]).strip().count("\n") > 5]
    assert long == []


def test_notebooks_are_committed_with_their_outputs():
    for path in NOTEBOOKS + ANSWERS:
        cells = code_cells(path)
        counts = [cell["execution_count"] for cell in cells]
        assert counts == list(range(1, len(cells) + 1)), path.name
        assert any(cell["outputs"] for cell in cells), path.name


# Documentation ---------------------------------------------------------------

PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))]


def without_code(text):
    return re.sub(r"^ *```.*?^ *```", "", text, flags=re.M | re.S)


def anchors(path):
    """Give the anchors of a page's headings, as GitHub makes them."""
    headings = re.findall(r"^#+ (.+)$", without_code(path.read_text("utf-8")),
                          re.M)
    return {re.sub(r"[^\w\- ]", "", heading.lower()).strip().replace(" ", "-")
            for heading in headings}


def links(page):
    text = without_code(page.read_text("utf-8"))
    found = re.findall(r"\]\(([^)\s]+)|(?:src|href)=\"([^\"]+)\"", text)
    targets = [one or other for one, other in found]
    return [target for target in targets if not re.match(r"\w+:", target)]


def test_every_link_leads_somewhere():
    broken = []
    for page in PAGES:
        for target in links(page):
            file, _, anchor = target.partition("#")
            path = page.parent / file if file else page
            if not path.exists() or anchor and anchor not in anchors(path):
                broken.append(f"{page.name}: {target}")
    assert broken == []


def test_every_page_is_linked_from_the_readme_and_says_its_kind():
    linked = {target.partition("#")[0] for target in links(PAGES[0])}
    pages = {page: page.read_text("utf-8") for page in PAGES[1:]}
    assert pages and {f"docs/{page.name}" for page in pages} <= linked
    kinds = re.compile("tutorial|how-to|reference|explanation", re.I)
    assert [page.name for page, text in pages.items()
            if not kinds.search("\n".join(text.splitlines()[:6]))] == []


def test_every_name_in_the_documentation_is_in_the_book():
    known = {getattr(node, field, None) for node in ast.walk(TREE)
             for field in ("name", "id", "attr", "arg")}
    unknown = []
    for page in PAGES:
        text = page.read_text("utf-8")
        called = re.findall(r"`(\w+)\(\)`", text)
        dotted = re.findall(r"(?<![\w/.-])faas\.([A-Za-z_]\w*)", text)
        unknown += [f"{page.name}: {name}()" for name in called
                    if name not in known and not hasattr(builtins, name)]
        unknown += [f"{page.name}: faas.{name}" for name in dotted
                    if name not in ("py", "db", "service")
                    and not hasattr(faas, name)]
    assert unknown == []


def table(page, *columns):
    """Read all rows below a header of these columns from a page in docs."""
    rows, reading = [], False
    for line in (ROOT / "docs" / page).read_text("utf-8").splitlines():
        cells = tuple(cell.strip().replace("`", "").replace("\\|", "|")
                      for cell in re.split(r"(?<!\\)\|", line)[1:-1])
        reading = cells == columns or reading and bool(cells)
        if reading and cells != columns and set(cells[0]) - set(":-"):
            rows.append(cells)
    return rows


def test_the_table_of_errors_is_that_of_the_code():
    assert table("errors.md", "kind", "http", "coap", "grpc", "exit",
                 "when") == [(name, *map(str, kind))
                             for name, kind in faas.KINDS.items()]


def test_the_table_of_routes_is_that_of_the_code():
    columns = "method", "path", "face", "guard", "what"
    assert sorted(table("http-api.md", *columns)) == sorted(
        tuple(str(getattr(route, column)) for column in columns)
        for route in faas.ROUTES)


def test_the_table_of_contracts_is_that_of_the_code():
    assert table("functions.md", "tongue", "marks", "runs", "package",
                 "chooses", "asks", "goes in", "comes out",
                 "taken from") == [
        (name, faas.alternatives(tongue.marks), tongue.runs, tongue.package,
         "yes" if tongue.chooses else "no", "yes" if tongue.asks else "no",
         tongue.goes_in, tongue.comes_out, tongue.taken_from)
        for name, tongue in faas.TONGUES.items()]


def test_the_table_of_modules_is_that_of_the_code():
    rows = table("functions.md", "name", "takes", "gives")
    assert sorted(row[:2] for row in rows) == sorted(
        (name, builtin.takes) for name, builtin in faas.BUILTINS.items())
    assert all(gives for _, _, gives in rows)


def test_no_name_of_the_book_is_given_twice():
    names = [node.name for node in TREE.body if hasattr(node, "name")]
    for node in TREE.body:
        targets = getattr(node, "targets", [getattr(node, "target", None)])
        names += [name.id for target in targets if target
                  and isinstance(node, (ast.Assign, ast.AnnAssign))
                  for name in ast.walk(target) if isinstance(name, ast.Name)
                  and isinstance(name.ctx, ast.Store)]
    assert [name for name in set(names) if names.count(name) > 1] == []


def test_the_table_of_limits_is_that_of_the_code():
    rows = table("security.md", "Limit", "Default", "What it bounds",
                 "Past it")
    units = {"s": 1, "MB": 1 << 20, "GB": 1 << 30, "": 1}
    found = {}
    for name, default, *_ in rows:
        number, _, unit = default.partition(" ")
        found[name] = int(number) * units[unit]
    assert found == faas.Limits()._asdict()


def test_the_limits_of_the_doors_are_those_of_the_code():
    rows = table("security.md", "Constant", "Value", "What it bounds")
    units = {"s": 1, "bytes": 1, "KB": 1 << 10, "MB": 1 << 20, "": 1}
    told = {}
    for name, value, _ in rows:
        number, _, unit = value.partition(" ")
        told[name] = int(number) * units[unit]
    assert told and told == {name: getattr(faas, name) for name in told}


def test_the_command_line_is_that_of_the_code():
    """Each command has a row, and each option but --help."""
    page = (ROOT / "docs" / "command-line.md").read_text("utf-8")
    firsts = set(re.findall(r"^\| `([^`]+)`", page, re.M))
    assert {name for name, *_ in faas.COMMANDS} <= {
        first.split()[0] for first in firsts}
    options = {option for *_, arguments in faas.COMMANDS
               for option in {**arguments, **faas.OF_ALL}
               if option.startswith("-")}
    told = set(re.findall(r"`(--?\w[\w-]*)", page))
    told |= set(re.findall(r"--?\w[\w-]*", " ".join(firsts)))
    assert options <= told, options - told
