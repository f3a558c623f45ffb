CREATE OR REPLACE VIEW sales.public.spend AS
SELECT customer_id, SUM(amount) AS amount FROM sales.public.orders GROUP BY customer_id
