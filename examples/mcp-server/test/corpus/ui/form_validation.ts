export type Problem = { field: string; message: string }

const EMAIL = /^[^@\s]+@[^@\s]+\.[^@\s]+$/

/** What is wrong with what somebody has typed into the registration page. */
export function problems(form: { email: string; age: string; nickname: string }): Problem[] {
  const found: Problem[] = []
  if (!EMAIL.test(form.email)) found.push({ field: 'email', message: 'this is no e-mail address' })
  if (!/^\d+$/.test(form.age) || Number(form.age) < 16) found.push({ field: 'age', message: 'you must be 16 or older' })
  if (form.nickname.length > 30) found.push({ field: 'nickname', message: 'at most 30 letters' })
  return found
}
