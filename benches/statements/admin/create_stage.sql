CREATE OR REPLACE STAGE sales.public.landing URL = 's3://acme-landing/orders/' FILE_FORMAT = (TYPE = CSV)
