GRANT SELECT ON TABLE sales.public.orders TO ROLE analyst
