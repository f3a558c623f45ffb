INSERT INTO orders (id, customer_id, amount, status, created_at) VALUES
  (1, 4711, 12.50, 'open', CURRENT_TIMESTAMP()), (2, 4712, 99.00, 'open', CURRENT_TIMESTAMP()),
  (3, 4713, 7.25, 'paid', CURRENT_TIMESTAMP())
