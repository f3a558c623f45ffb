WITH shopper_returns AS (
  SELECT sr.sr_shopper_key AS shopper_key, sr.sr_store_key AS store_key, SUM(sr.sr_amount) AS returned
  FROM retail.star.store_returns sr JOIN retail.star.day d ON d.d_key = sr.sr_day_key
  WHERE d.d_year = 2025
  GROUP BY sr.sr_shopper_key, sr.sr_store_key
)
SELECT c.c_id, c.c_email, r1.returned
FROM shopper_returns r1
  JOIN retail.star.store s ON s.s_key = r1.store_key
  JOIN retail.star.shopper c ON c.c_key = r1.shopper_key
WHERE r1.returned > (SELECT AVG(r2.returned) * 1.2 FROM shopper_returns r2 WHERE r2.store_key = r1.store_key)
  AND s.s_state = 'TN'
ORDER BY c.c_id LIMIT 100
