"""What sqlglot says every output column of a query comes from.

The first line of standard input is {"schema": {db: {schema: {table: {column: type}}}}, "views": {name: sql}}; every
other one is {"id", "sql"}. Each is answered by one line {"id", "outputs": [[source, ...], ...]} with sources as
TABLE.COLUMN, or by {"id", "error"}. For UPDATE and MERGE the outputs are the values that are set, in their order.
"""

import json
import logging
import sys

import sqlglot
from sqlglot import exp
from sqlglot.lineage import lineage
from sqlglot.schema import MappingSchema

DIALECT = "snowflake"
logging.disable()


def leaves(node):
    found = set()
    for step in node.walk():
        if isinstance(step.expression, exp.Table) and not step.downstream:
            column = step.name.split(".")[-1].strip('"')
            if column != "*":
                found.add(f"{step.expression.name}.{column}".upper())
    return sorted(found)


def of_query(query, schema, views):
    nodes = lineage(None, query, schema=schema, sources=views, dialect=DIALECT)
    return [leaves(node) for node in nodes.values()]


def of_value(value, query, schema, views):
    found = set()
    for column in value.find_all(exp.Column):
        found.update(leaves(lineage(column.name, query, schema=schema, sources=views, dialect=DIALECT)))
    return sorted(found)


def answer(sql, schema, views):
    tree = sqlglot.parse_one(sql, dialect=DIALECT)
    if isinstance(tree, exp.Query):
        return of_query(tree, schema, views)
    if isinstance(tree, (exp.Create, exp.Insert)):
        return of_query(tree.expression, schema, views)
    if isinstance(tree, exp.Update):
        source = tree.args["from_"].this.this
        return [of_value(change.expression, source, schema, views) for change in tree.expressions]
    if isinstance(tree, exp.Merge):
        source = tree.args["using"].this
        values = []
        for when in tree.args["whens"].expressions:
            then = when.args["then"]
            if isinstance(then, exp.Update):
                values += [change.expression for change in then.expressions]
            else:
                values += then.expression.expressions
        return [of_value(value, source, schema, views) for value in values]
    raise ValueError(f"no answer for {type(tree).__name__}")


def main():
    given = json.loads(sys.stdin.readline())
    schema = MappingSchema(given["schema"], dialect=DIALECT)
    for line in sys.stdin:
        asked = json.loads(line)
        try:
            said = {"id": asked["id"], "outputs": answer(asked["sql"], schema, given["views"])}
        except Exception as error:  # whatever it does not know is told, and the next one is asked
            said = {"id": asked["id"], "error": f"{type(error).__name__}: {str(error).splitlines()[0][:160]}"}
        print(json.dumps(said), flush=True)


main()
