const EARTH_RADIUS_KM = 6371.0088

const radians = (degrees) => (degrees * Math.PI) / 180

/** Length of the shortest way over the globe between two points, in kilometres. */
export function greatCircle(a, b) {
  const dLat = radians(b.lat - a.lat)
  const dLon = radians(b.lon - a.lon)
  const h = Math.sin(dLat / 2) ** 2 + Math.cos(radians(a.lat)) * Math.cos(radians(b.lat)) * Math.sin(dLon / 2) ** 2
  return 2 * EARTH_RADIUS_KM * Math.asin(Math.min(1, Math.sqrt(h)))
}
