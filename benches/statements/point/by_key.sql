SELECT id, email, country FROM sales.public.customers WHERE id = 4711
