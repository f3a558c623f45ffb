MERGE INTO orders o USING (SELECT customer_id, SUM(amount) AS amount FROM orders GROUP BY customer_id) n
ON o.customer_id = n.customer_id
WHEN MATCHED AND n.amount = 0 THEN DELETE
WHEN MATCHED THEN UPDATE SET o.amount = n.amount, o.status = 'summed'
WHEN NOT MATCHED THEN INSERT (customer_id, amount) VALUES (n.customer_id, n.amount)
