{% macro run_all(statements) %}
  {% for statement in statements %}
    {% set rows = [] %}
    {% for row in run_query(statement).rows %}
      {% do rows.append(row.values() | map("string") | list) %}
    {% endfor %}
    {% do log("ROWS " ~ tojson(rows), info=True) %}
  {% endfor %}
{% endmacro %}
