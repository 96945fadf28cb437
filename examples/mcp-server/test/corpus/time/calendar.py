"""When is Easter, and which days are free because of it?"""
from datetime import date, timedelta


def easter(year: int) -> date:
    a, b, c = year % 19, year // 100, year % 100
    d, e = divmod(b, 4)
    g = (8 * b + 13) // 25
    h = (19 * a + b - d - g + 15) % 30
    i, k = divmod(c, 4)
    m = (32 + 2 * e + 2 * i - h - k) % 7
    n = (a + 11 * h + 22 * m) // 451
    month, day = divmod(h + m - 7 * n + 114, 31)
    return date(year, month, day + 1)


def moveable_holidays(year: int) -> list[date]:
    return [easter(year) + timedelta(days=n) for n in (-2, 1, 39, 50)]
