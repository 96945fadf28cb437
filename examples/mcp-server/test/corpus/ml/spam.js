/** Naive Bayes over words: is a message unwanted advertising? */
export class JunkFilter {
  #counts = { junk: new Map(), good: new Map() }
  #messages = { junk: 0, good: 0 }

  learn(label, message) {
    this.#messages[label]++
    for (const word of words(message)) this.#counts[label].set(word, (this.#counts[label].get(word) ?? 0) + 1)
  }

  isJunk(message) {
    const score = (label) => {
      const n = this.#messages[label]
      return words(message).reduce((sum, word) => sum + Math.log(((this.#counts[label].get(word) ?? 0) + 1) / (n + 2)), Math.log(n + 1))
    }
    return score('junk') > score('good')
  }
}

const words = (message) => [...new Set(message.toLowerCase().match(/\p{L}+/gu) ?? [])]
