# CSV in, JSON out: one object per row, its keys from the first row. Another
# separator comes as a query, /csv2json?sep=%3B for the semicolons of a
# spreadsheet, and reaches a function in the header X-Faas-Query.
import csv
import io
import urllib.parse


def fn(input, headers):
    query = urllib.parse.parse_qs(headers.get("X-Faas-Query", ""))
    sep = query.get("sep", [","])[0]
    return list(csv.DictReader(io.StringIO(input or ""), delimiter=sep))
