CREATE OR REPLACE TABLE sales.public.open_orders AS
SELECT o.id, o.amount, c.country FROM sales.public.orders o JOIN sales.public.customers c ON c.id = o.customer_id
WHERE o.status = 'open'
