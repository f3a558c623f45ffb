SELECT s.s_name, s.s_id,
       SUM(CASE WHEN d.d_weekday = 'Sunday' THEN ss.ss_sales_price ELSE NULL END) AS sunday,
       SUM(CASE WHEN d.d_weekday = 'Monday' THEN ss.ss_sales_price ELSE NULL END) AS monday,
       SUM(CASE WHEN d.d_weekday = 'Tuesday' THEN ss.ss_sales_price ELSE NULL END) AS tuesday,
       SUM(CASE WHEN d.d_weekday = 'Wednesday' THEN ss.ss_sales_price ELSE NULL END) AS wednesday,
       SUM(CASE WHEN d.d_weekday = 'Thursday' THEN ss.ss_sales_price ELSE NULL END) AS thursday,
       SUM(CASE WHEN d.d_weekday = 'Friday' THEN ss.ss_sales_price ELSE NULL END) AS friday,
       SUM(CASE WHEN d.d_weekday = 'Saturday' THEN ss.ss_sales_price ELSE NULL END) AS saturday
FROM retail.star.day d, retail.star.store_sales ss, retail.star.store s
WHERE d.d_key = ss.ss_day_key AND s.s_key = ss.ss_store_key AND s.s_state IN ('TN', 'GA') AND d.d_year = 2025
GROUP BY s.s_name, s.s_id
ORDER BY s.s_name, s.s_id, sunday, monday, tuesday, wednesday, thursday, friday, saturday LIMIT 100
