COPY INTO @sales.public.landing/orders/ FROM (SELECT id, amount FROM sales.public.orders) FILE_FORMAT = (TYPE = CSV)
