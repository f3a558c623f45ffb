INSERT INTO sales.public.employees (id, name, dept)
SELECT c.id, UPPER(c.name), 'new' FROM sales.public.customers c WHERE c.country = 'NL'
