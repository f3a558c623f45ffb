SELECT * FROM orders WHERE customer_id = 4711 ORDER BY created_at DESC LIMIT 20
